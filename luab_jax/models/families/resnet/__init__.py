"""ResNets: He et al. 2015."""
