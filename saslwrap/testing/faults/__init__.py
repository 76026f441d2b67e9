"""A connection that misbehaves on demand: cut into other pieces, delayed, cut off, altered.

    transport = FaultyStream(transport, receiving=OneOctet())
    transport = FaultyStream(transport, sending=Chain(Drop(frame=2), RandomSizes(seed=7)))
    transport = FaultyStream(transport, receiving=AfterLogin(fault("replay", seed=3)))

A fault is one direction's of one connection and knows what passed before; a second use of it is a
`UsageError`. The same fault, made anew, does the same to the same octets. `FaultProxy` takes the
same faults between two processes.
"""

from saslwrap.testing.faults.base import Back, Chain, End, Fault, Outcome, Wait, Whole
from saslwrap.testing.faults.frames import (
    Drop,
    FrameFault,
    InjectBefore,
    Reflect,
    Replay,
    Swap,
    WrongLength,
)
from saslwrap.testing.faults.names import FAULTS, SEGMENTATIONS, fault, segmentation
from saslwrap.testing.faults.octets import Cut, Delay, FlipBit, InjectAt, Stop
from saslwrap.testing.faults.segments import (
    AtOnce,
    HeadersAlone,
    OneOctet,
    RandomSizes,
    SplitHeaders,
)
from saslwrap.testing.faults.start import After, AfterLogin
from saslwrap.testing.faults.stream import FaultyStream

__all__ = [
    "FAULTS",
    "SEGMENTATIONS",
    "After",
    "AfterLogin",
    "AtOnce",
    "Back",
    "Chain",
    "Cut",
    "Delay",
    "Drop",
    "End",
    "Fault",
    "FaultyStream",
    "FlipBit",
    "FrameFault",
    "HeadersAlone",
    "InjectAt",
    "InjectBefore",
    "OneOctet",
    "Outcome",
    "RandomSizes",
    "Reflect",
    "Replay",
    "SplitHeaders",
    "Stop",
    "Swap",
    "Wait",
    "Whole",
    "WrongLength",
    "fault",
    "segmentation",
]
