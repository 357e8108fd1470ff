<?php
header('Content-Type: text/plain');
printf("%s answers from PHP %s, in a process that holds %d KB.\n", gethostname(), PHP_VERSION, memory_get_usage(true) / 1024);
