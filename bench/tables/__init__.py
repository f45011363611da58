"""From stored rows to numbers one can stand by: means, intervals, tests, curves. No torch."""
