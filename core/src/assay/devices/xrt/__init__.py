"""AMD NPUs through XRT: written against pyxrt 2.18 to 2.25 and run on the stand-in, never on hardware."""
