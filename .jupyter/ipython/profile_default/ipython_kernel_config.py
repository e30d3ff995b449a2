"""The kernel that runs the notebooks."""

c = get_config()  # noqa: F821

# Kernels listen on loopback only; the warning that they do so unencrypted would head every run.
c.IPKernelApp.log_level = "ERROR"
