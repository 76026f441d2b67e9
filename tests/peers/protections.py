"""What DIGEST-MD5 can protect with, and how strong that is."""

from __future__ import annotations

#: As Cyrus counts: 0 is no layer, 1 integrity.
SSF = {
    "auth": 0,
    "auth-int": 1,
    "rc4": 128,
    "3des": 112,
    "rc4-56": 56,
    "des": 55,
    "rc4-40": 40,
}

#: What Cyrus SASL 2.1.28 can do. It offers 3des too.
OF_CYRUS = {name: ssf for name, ssf in SSF.items() if name != "3des"}
