"""`make bench`: what modelctl costs, against the sum of its parts and against its peers, in one run."""
