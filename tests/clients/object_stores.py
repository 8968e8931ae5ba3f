"""Object stores to ship to: a real S3 server, and moto. boto3 sees what they have."""

import logging
import os
import subprocess
import urllib.request
from pathlib import Path

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

import service

PROGRAM = Path(os.environ.get("LOGSHIP_S3_SERVER", service.ROOT / "target/release/logship-s3-server"))
REGION = "us-east-1"
ID, SECRET = "lake-id", "lake-secret"


class ObjectStore:
    """A store at a URL, with one bucket."""

    bucket = "lake"

    def __init__(self, url):
        self.url = url
        self.client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id=ID,
            aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )
        self.client.create_bucket(Bucket=self.bucket)

    def settings(self, name, **others):
        """The settings of a service for which this is the destination `name`."""
        key = {"access-key-id": ID, "access-key-secret": SECRET}
        members = {"type": "s3", "endpoint": self.url, "region": REGION, **key, **others}
        lines = [f"[destinations.{name}]", *(f'{member} = "{value}"' for member, value in members.items())]
        return "\n".join(lines) + "\n"

    def keys(self):
        """The keys of all objects."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return sorted(found["Key"] for page in pages for found in page.get("Contents", []))

    def metadata(self, key):
        """What the writer of an object said of it."""
        return self.client.head_object(Bucket=self.bucket, Key=key)["Metadata"]

    def read(self, key):
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()


class S3Server(ObjectStore):
    """The real S3 server that stands beside the tests in Rust, for one test case. Its buckets are folders."""

    def __init__(self, test):
        self.folder = service.temporary_folder(test)
        command = [PROGRAM, self.folder, ID, SECRET]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        test.addCleanup(self.end)
        super().__init__(self.process.stdout.readline().strip())

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def path(self, key):
        """The file that has an object's bytes."""
        return self.folder / self.bucket / key


class Moto(ObjectStore):
    """moto, for one test case."""

    def __init__(self, test):
        # It tells of each request.
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.server = ThreadedMotoServer(service.ADDRESS, 0, verbose=False)
        self.server.start()
        test.addCleanup(self.end)
        super().__init__("http://{}:{}".format(*self.server.get_host_and_port()))

    def parts(self, key):
        """How many parts an object came in."""
        return self.client.head_object(Bucket=self.bucket, Key=key, PartNumber=1).get("PartsCount", 1)

    def end(self):
        # What it has is of the process, and would be there for the next one.
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")):
            self.server.stop()
