# The memory that this host may use, in MB.
#
# The agent passes it as the fact `magpie`, because in a container /proc/meminfo, and so Puppet's own fact, describes the
# whole machine. Rounded down to a multiple of 16: a new kernel that keeps a few MB more for itself must not change a
# setting and thereby restart a service.
function profile::memory_mb() >> Integer[0] {
  $bytes = $facts.dig('magpie', 'memory_bytes').lest || { $facts['memory']['system']['total_bytes'] }

  $bytes / 16777216 * 16
}
