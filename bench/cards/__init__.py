"""What is declared, as TOML that is checked when it is read: data sets, suites, backbones, recipes."""
