# Installs packages, after `apt-get update` when one of them is missing.
#
# The package lists of an image are as old as the image, and a mirror drops superseded packages. If nothing needs to be
# installed, the lists are not updated, so a second apply changes nothing, however late it runs.
#
# @param names
#   the packages, in order of installation
define profile::packages (Array[String[1], 1] $names) {
  $query = "dpkg-query --show --showformat='\${db:Status-Status}\\n' ${names.join(' ')}"

  exec { "apt-get update for ${title}":
    command  => 'apt-get --quiet=2 update',
    unless   => "test \"$(${query} | grep --count --line-regexp installed)\" -eq ${names.length}",
    path     => '/usr/bin:/bin',
    provider => shell,
  }
  -> package { $names:
    ensure          => installed,
    install_options => ['--no-install-recommends'],
  }
}
