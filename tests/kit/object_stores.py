"""Object stores to ship to: a real S3 server, and moto. boto3 reads them."""

import logging
import subprocess
import urllib.request

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

from kit.names import ADDRESS
from kit.paths import S3_SERVER
from kit.process import Process, temporary_folder

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
        """Settings of a service with this store as the destination `name`."""
        key = {"access-key-id": ID, "access-key-secret": SECRET}
        members = {"type": "s3", "endpoint": self.url, "region": REGION, **key, **others}
        lines = [f"[destinations.{name}]", *(f'{member} = "{value}"' for member, value in members.items())]
        return "\n".join(lines) + "\n"

    def keys(self):
        """The keys of all objects."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return sorted(found["Key"] for page in pages for found in page.get("Contents", []))

    def metadata(self, key):
        """The metadata of an object."""
        return self.client.head_object(Bucket=self.bucket, Key=key)["Metadata"]

    def read(self, key):
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()


class S3Server(ObjectStore):
    """The real S3 server of `tests/s3-server`, for one test case. Its buckets are folders."""

    def __init__(self, test):
        self.folder = temporary_folder(test)
        self.process = Process(test, temporary_folder(test) / "log", "the S3 server")
        self.process.spawn([S3_SERVER, self.folder, ID, SECRET], stdout=subprocess.PIPE, text=True)
        super().__init__(self.process.process.stdout.readline().strip())

    def path(self, key):
        """The file with the bytes of an object."""
        return self.folder / self.bucket / key


class Moto(ObjectStore):
    """moto, for one test case."""

    def __init__(self, test):
        # It logs each request.
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.server = ThreadedMotoServer(ADDRESS, 0, verbose=False)
        self.server.start()
        test.addCleanup(self.end)
        super().__init__("http://{}:{}".format(*self.server.get_host_and_port()))

    def parts(self, key):
        """The number of parts of an object's upload."""
        return self.client.head_object(Bucket=self.bucket, Key=key, PartNumber=1).get("PartsCount", 1)

    def end(self):
        # Its objects are globals of this process, and the next one would have them.
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")):
            self.server.stop()
