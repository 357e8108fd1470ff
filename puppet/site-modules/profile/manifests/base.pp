# Settings for every host, whatever its role.
#
# @param timezone
#   a name below /usr/share/zoneinfo
class profile::base (String[1] $timezone) {
  file { '/etc/motd':
    ensure  => file,
    mode    => '0644',
    content => "This is a ${facts['role']} host. Puppet describes it: a change made by hand lasts until the next apply.\n",
  }

  file { '/etc/localtime':
    ensure => link,
    target => "/usr/share/zoneinfo/${timezone}",
  }
}
