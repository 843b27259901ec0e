"""OpenStack Swift with its S3 face in one process, for tests: account, container, object and proxy server on loopback.

Arguments: a folder of its own, and four free ports (account, container, object, proxy).
"""
import os
import sys

from swift.common import utils

folder, ports = sys.argv[1], [int(word) for word in sys.argv[2:6]]
os.makedirs(folder + "/devices/d1")
utils.SWIFT_CONF_FILE = folder + "/swift.conf"
with open(utils.SWIFT_CONF_FILE, "w") as conf:
    conf.write("[swift-hash]\nswift_hash_path_suffix = a\nswift_hash_path_prefix = b\n")
    conf.write("[storage-policy:0]\nname = one\ndefault = yes\n")
utils.eventlet_monkey_patch()

from eventlet import listen, sleep, spawn, wsgi  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.wsgi import SwiftHttpProtocol, loadapp  # noqa: E402

BACKEND = """[DEFAULT]
devices = {folder}/devices
swift_dir = {folder}
mount_check = false
disable_fallocate = true
recon_cache_path = {folder}
log_level = CRITICAL
[pipeline:main]
pipeline = server
[app:server]
use = egg:swift#{kind}
"""

FILTERS = ["catch_errors", "gatekeeper", "healthcheck", "cache", "listing_formats", "s3api", "tempauth", "bulk", "copy", "slo"]
MORE = {
    "cache": ("memcache", "memcache_servers = 127.0.0.1:1"),
    "s3api": ("s3api", "location = us-east-1"),
    "tempauth": ("tempauth", "user_test_tester = testing-secret .admin"),
}

with open(folder + "/proxy.conf", "w") as conf:
    conf.write("[DEFAULT]\nswift_dir = %s\nlog_level = CRITICAL\n" % folder)
    conf.write("[pipeline:main]\npipeline = %s proxy-server\n" % " ".join(FILTERS))
    conf.write("[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\nnode_timeout = 60\nconn_timeout = 20\n")
    for name in FILTERS:
        egg, more = MORE.get(name, (name, ""))
        conf.write("[filter:%s]\nuse = egg:swift#%s\n%s\n" % (name, egg, more))

for kind, port in zip(["account", "container", "object"], ports):
    with open("%s/%s.conf" % (folder, kind), "w") as conf:
        conf.write(BACKEND.format(folder=folder, kind=kind))
    builder = RingBuilder(2, 1, 0)
    place = {"region": 1, "zone": 1, "device": "d1", "weight": 1.0, "meta": ""}
    address = {"ip": "127.0.0.1", "port": port, "replication_ip": "127.0.0.1", "replication_port": port}
    builder.add_dev({**place, **address, "id": 0})
    builder.rebalance()
    builder.get_ring().save("%s/%s.ring.gz" % (folder, kind))

silence = open(os.devnull, "w")
for kind, port in zip(["account", "container", "object", "proxy"], ports):
    app = loadapp("%s/%s.conf" % (folder, kind), global_conf={})
    spawn(wsgi.server, listen(("127.0.0.1", port)), app, log=silence, protocol=SwiftHttpProtocol)
while True:
    sleep(3600)
