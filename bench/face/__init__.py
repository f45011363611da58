"""The functions of `bench`, for Python: what they take and give is documented there, docs/python.md shows them."""
