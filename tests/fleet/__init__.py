"""Tests on hosts with systemd and sshd of their own."""
