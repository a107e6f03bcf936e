"""The version of the methods of compression; apart from them, so that naming a level needs no torch."""

METHOD_VERSION = 1  # part of every level's digest: raise it when a change alters the integers
