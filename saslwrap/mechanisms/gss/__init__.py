"""What GSSAPI and GSS-SPNEGO share: one GSS context and its layer, over pyspnego."""
