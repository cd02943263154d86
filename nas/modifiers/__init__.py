"""Ways to make another network of a trained one, one file each; `base` has the contract and the registry."""
