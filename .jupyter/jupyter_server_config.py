"""JupyterLab as `make lab` starts it."""

c = get_config()  # noqa: F821

# Ploomber's contents manager is synchronous; under it JupyterLab 4 answers every file listing with 500.
c.ServerApp.jpserver_extensions = {"ploomber": False, "ploomber_extension": False}

# Nothing is fetched: no news, no update check, no list of extensions.
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"

c.LabApp.default_url = "/lab/tree/notebooks"
