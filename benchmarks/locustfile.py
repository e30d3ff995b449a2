"""Load the running service with users: `locust -f benchmarks/locustfile.py --headless -u 1000 -r 200 -t 60s`.

One health check to four images, as the student project loaded its service, from users that wait one to two seconds
between requests. Locust is a tool to install where it is needed (`pip install locust`), not a package of this project.
Give `--host` where the service is elsewhere. Every status but 200 is a failure.
"""

import random

from images import image
from locust import FastHttpUser, between, task

WAIT = (1, 2)  # seconds
IMAGES = [image(seed) for seed in range(500)]


class Visitor(FastHttpUser):
    """Send requests as a browser does."""

    host = "http://127.0.0.1:8000"
    wait_time = between(*WAIT)

    @task(1)
    def health(self) -> None:
        self.client.get("/health")

    @task(4)
    def predict(self) -> None:
        self.client.post("/predict/", files={"data": ("image.jpg", random.choice(IMAGES), "image/jpeg")})
