"""What a cluster must stand: faults in their hundreds, nodes that are cut off, thousands of trials."""
