# docker build --target lab|build|api .    On a machine with an NVIDIA GPU add --build-arg GPU=1.
FROM python:3.12-slim-bookworm AS python
ENV VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 cifake && mkdir /cifake && chown cifake /cifake
WORKDIR /cifake

FROM python AS installer
RUN pip install --no-cache-dir uv==0.13.9 && uv venv /opt/venv
COPY requirements.txt .

# The group `service` of pyproject.toml, at the lock's versions; uv checks the hashes of a constraints file too.
FROM installer AS service
COPY pyproject.toml README.md ./
COPY lib lib
RUN uv pip install --no-cache --constraints requirements.txt setuptools \
    && uv pip install --no-cache --constraints requirements.txt --no-build-isolation ".[service]" \
    && uv pip uninstall setuptools

FROM python AS api
COPY --from=service /opt/venv /opt/venv
COPY outputs/reference/served.onnx outputs/reference/served.json outputs/reference/drift.npz outputs/reference/external.json ./
ENV CIFAKE_MODEL=/cifake/served.onnx
USER 1000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health')"]
CMD ["cifake", "serve", "--host", "0.0.0.0"]

FROM installer AS project
RUN uv pip install --no-cache --require-hashes --compile-bytecode -r requirements.txt
COPY --chown=cifake . .
RUN uv pip install --no-cache --no-deps --no-build-isolation --editable .
# The lock's torch needs its CUDA libraries even to be imported, and runs on a CPU with them: the packages are
# the same. GPU says which profile is the default, and whether the container asks for the GPUs.
ARG GPU
# A user of another number has no name and no home of its own.
ENV JUPYTER_CONFIG_DIR=/cifake/.jupyter PLOOMBER_STATS_ENABLED=false PLOOMBER_VERSION_CHECK_DISABLED=1 \
    PLOOMBER_HOME_DIR=/tmp/ploomber USER=cifake HOME=/tmp PLOOMBER_ENV_FILENAME=env.${GPU:+gpu.}yaml \
    NVIDIA_VISIBLE_DEVICES=${GPU:+all} NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000

FROM project AS lab
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser"]

FROM project AS build
CMD ["ploomber", "build"]
