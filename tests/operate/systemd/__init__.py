"""The units of `supervisors/systemd`, run by a systemd that has booted, in a container by systemd-nspawn(1)."""
