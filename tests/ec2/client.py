"""Calls EC2 by another client than Magpie's: client.py OPERATION PARAMETERS, as boto3 and JSON have them.

Prints the answer, or {"error": code}.
"""

import json
import os
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

operation, parameters = sys.argv[1], json.loads(sys.argv[2])
client = boto3.client("ec2", os.environ["AWS_REGION"], config=Config(retries={"total_max_attempts": 1}))
try:
    answer = getattr(client, operation)(**parameters)
    answer.pop("ResponseMetadata", None)
except ClientError as error:
    answer = {"error": error.response["Error"]["Code"]}
print(json.dumps(answer, default=str))
