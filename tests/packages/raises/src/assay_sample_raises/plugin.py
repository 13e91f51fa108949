"""What a missing shared library looks like."""

raise OSError("libfast.so.1: cannot open shared object file")
