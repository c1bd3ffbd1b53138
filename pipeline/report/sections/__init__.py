"""The page's sections, a file for each: records in, blocks out."""
