"""Speed and memory against references and limits, as ratios measured in one run. `make bench` runs all of them."""
