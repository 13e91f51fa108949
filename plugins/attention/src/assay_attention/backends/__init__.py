"""One implementation per file, each importing its own library and no other's."""
