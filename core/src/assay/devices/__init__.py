"""Kinds of device: what is there, how to open it, which buffers it gives."""
