"""A package of somebody else: a vision, a memory and a recipe that dreamenv learns of by entry points alone.

`tests/test_foreign_package.py` copies it to a folder outside the tree and installs it there.
"""
