"""The way to other hosts: which are this machine, proxies, certificates, and an end of waiting."""
