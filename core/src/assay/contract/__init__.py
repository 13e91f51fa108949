"""The contract between programs, operations and implementations: plain data, no I/O."""
