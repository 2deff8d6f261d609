"""Side-by-side measurements: quayflow against references, in turn, in one run, on one broker.

Every figure is the median of pairs; absolute rates of a shared machine mean little, ratios taken within one run do.
"""
