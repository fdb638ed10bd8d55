"""The commands of ``avff``, each a typed function; `avff_lib.cli` puts them together.

Each imports what it needs when it is called, so that ``avff --help`` answers at once.
"""
