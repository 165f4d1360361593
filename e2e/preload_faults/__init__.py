"""What befalls a preload, on a real cluster of two nodes, of which n2 has its own disk. From the repository's root:

e2e/cluster/cluster run --nodes 2 --disk n2=1000 -- .venv/bin/python -m pytest e2e/preload_faults -n 4 --dist loadfile

The image of modelctl takes 450 MiB of that disk. Only tests with the fixture n2 touch that node, one file at a time.
"""
