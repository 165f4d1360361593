"""Tests that run beside a cluster of two nodes: `make e2e` boots it. By hand, from the repository's root:

e2e/cluster/cluster run --nodes 2 -- .venv/bin/python -m pytest e2e/kubernetes
"""
