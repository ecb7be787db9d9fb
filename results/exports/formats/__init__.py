"""The formats of exports: each module of this package is one, by the name of its file.

A module has `export(dump, folder)`, which writes a run and returns the files, and `ABOUT`, which says in a
few words what those are. Where `dump.redact` is set no text may be written: `Dump` gives none, and
`check_folder` refuses a folder with earlier files.
"""
