"""What a peer, or a caller's memory, can throw at the package: targets for a fuzzer.

A target turns any octets into an attack on one part, and holds what comes of it against what has
to hold (`target`). The octets are taken apart by `reader`, so that a file of the corpus means the
same with and without a fuzzer; atheris is known to `engine` alone. README.md tells how to run it.
"""
