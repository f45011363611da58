"""Which methods there are: the built-in ones, those from entry points, those from `--include` files."""
