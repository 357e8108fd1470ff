# Apache with PHP inside its children (prefork), with as many children as fit into the host's memory.
#
# The outage that this class prevents: a host with 1 GB, Apache's default of 150 children, and 35 MB in each busy child.
# On a quiet day ten children are enough and all is well. On a busy day, Apache starts all 150, which need
# 150 * 35 = 5250 MB: the host swaps, every page takes longer, so more children are busy at a time, and in the end
# the kernel kills the biggest process.
#
# The arithmetic: the memory that is not reserved, divided by the size of a child.
#
#   1024 MB: (1024 - 256) / 35 = 21 children        613 MB (608): (608 - 256) / 35 = 10 children
#
# When all children are busy, requests wait a moment in the listen queue. That is the better failure.
#
# The size of a child is a number in data/roles/web.yaml, not the current measurement: children grow under load, so
# a limit computed from them would change from apply to apply, and each change would restart Apache at the worst time.
# The measurement (fact `apache_child_mb`) only triggers a warning when the number is too low.
#
# @param reserve_mb
#   memory for everything except Apache children, in MB
# @param child_mb
#   memory of one busy child, in MB
# @param connections_per_child
#   a child is replaced after this many connections
class profile::web (
  Integer[0] $reserve_mb,
  Integer[1] $child_mb,
  Integer[1] $connections_per_child,
) {
  $max_children = max((profile::memory_mb() - $reserve_mb) / $child_mb, 2)

  $measured_mb = $facts['apache_child_mb']
  if $measured_mb =~ Integer and $measured_mb > $child_mb {
    warning("Apache's children hold ${measured_mb} MB each, more than the ${child_mb} MB planned: raise profile::web::child_mb.")
  }

  # In this order: PHP's package finds Apache there, and switches it from threads to prefork.
  profile::packages { 'web':
    names => ['apache2', 'libapache2-mod-php'],
  }

  file {
    default:
      ensure  => file,
      mode    => '0644',
      require => Profile::Packages['web'];
    '/etc/apache2/conf-enabled/capacity.conf':
      content => epp('profile/prefork.conf.epp', {
        'max_children'          => $max_children,
        'connections_per_child' => $connections_per_child,
      }),
      notify  => Service['apache2'];
    '/var/www/html/index.php':
      content => file('profile/index.php');
    # The distribution's page, which Apache would serve instead of ours.
    '/var/www/html/index.html':
      ensure => absent;
  }

  service { 'apache2':
    ensure  => running,
    enable  => true,
    require => Profile::Packages['web'],
  }
}
