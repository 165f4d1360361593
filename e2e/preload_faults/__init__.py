"""What befalls a preload, on a real cluster of two nodes, of which n2 has a small disk. From the repository's root:

e2e/cluster/cluster run --nodes 2 --disk n2=1000 -- .venv/bin/python -m pytest e2e/preload_faults -n 3 --dist loadgroup

A test that takes n2's power, disk or network, or keeps pods from it, is of the group n2: no two of them run at once.
The others leave n2 alone.
"""
