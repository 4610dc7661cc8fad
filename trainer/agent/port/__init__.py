"""The agent's port: HTTP for the other agents, the kubelet and Prometheus, and what it refuses."""
