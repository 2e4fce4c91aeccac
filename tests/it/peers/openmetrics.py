"""Reads OpenMetrics text strictly, by the parser of prometheus_client.

Prints JSON: for each family its type and its samples. Fails on text that is not OpenMetrics and on a series that stands
there twice.
"""

import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

families, seen = {}, set()
for family in text_string_to_metric_families(sys.stdin.read()):
    if family.name in families:
        sys.exit(f"family {family.name} stands there twice")
    if not family.documentation:
        sys.exit(f"family {family.name} has no help")
    for sample in family.samples:
        key = (sample.name, tuple(sorted(sample.labels.items())))
        if key in seen:
            sys.exit(f"series {key} stands there twice")
        seen.add(key)
    samples = [[sample.name, sample.labels, sample.value] for sample in family.samples]
    families[family.name] = {"type": family.type, "samples": samples}
print(json.dumps(families))
