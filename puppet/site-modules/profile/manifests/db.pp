# PostgreSQL, sized to the memory of the host, with one database and its owner.
#
# The arithmetic, for 1024 MB, of which 192 are reserved:
#
#   shared_buffers        a quarter of all                   1024 / 4         = 256 MB, taken once, at start
#   left for connections  the rest without the reserve       1024 - 192 - 256 = 576 MB
#   max_connections       half of that, 8 MB for each         576 / 2 / 8     =  36
#   work_mem              the other half, for sorts: each     576 / 2 / 36 / 2 =  4 MB
#                         connection has its share, and may
#                         sort in two places at a time
#   effective_cache_size  three quarters: a hint to the planner about the page cache, takes no memory
#
# So the memory is enough even with every connection busy. A limit too high for the memory (PostgreSQL's own
# default is 100) shows only when it is reached: as an OOM kill.
#
# @param postgresql_versions
#   the packaged version by "<os name> <major release>"
# @param reserve_mb
#   memory for everything except PostgreSQL, in MB
# @param connection_mb
#   private memory of one connection without sorting, in MB
# @param connections_limit
#   upper limit of max_connections
# @param database
#   created if missing
# @param user
#   owner of the database, created if missing
# @param password
#   password of that user; set again if it does not open the database
class profile::db (
  Hash[String[1], String[1]]         $postgresql_versions,
  Integer[0]                         $reserve_mb,
  Integer[1]                         $connection_mb,
  Integer[10]                        $connections_limit,
  Pattern[/\A[a-z_][a-z0-9_]*\z/]    $database,
  Pattern[/\A[a-z_][a-z0-9_]*\z/]    $user,
  Sensitive[Pattern[/\A[^\r\n]+\z/]] $password,
) {
  $release = "${facts['os']['name']} ${facts['os']['release']['major']}"
  $version = $postgresql_versions[$release]
  unless $version {
    fail("Which PostgreSQL does ${release} have? Add it to profile::db::postgresql_versions in data/roles/db.yaml")
  }

  $memory_mb          = profile::memory_mb()
  $shared_buffers_mb  = $memory_mb / 4
  $for_connections_mb = max($memory_mb - $reserve_mb - $shared_buffers_mb, 0)
  $max_connections    = max(10, min($for_connections_mb / 2 / $connection_mb, $connections_limit))
  $work_mem_mb        = max($for_connections_mb / 2 / $max_connections / 2, 1)
  $cache_mb           = $memory_mb * 3 / 4

  $config  = "/etc/postgresql/${version}/main"
  $service = "postgresql@${version}-main"

  # By default, the package creates a cluster in the locale of the installing user and starts it with settings that
  # Puppet then changes. Without that, PostgreSQL starts once, with the right settings, which saves a restart of 2 s.
  $create = '/etc/postgresql-common/createcluster.d'
  file { ['/etc/postgresql-common', $create]:
    ensure => directory,
  }
  -> file { "${create}/no-main.conf":
    ensure  => file,
    mode    => '0644',
    content => "create_main_cluster = false\n",
  }
  -> profile::packages { 'db':
    names => ["postgresql-${version}"],
  }
  -> exec { 'pg_createcluster':
    command => "/usr/bin/pg_createcluster --locale=C.UTF-8 ${version} main",
    creates => "${config}/postgresql.conf",
  }

  file {
    default:
      ensure  => file,
      owner   => 'postgres',
      group   => 'postgres',
      mode    => '0640',
      require => Exec['pg_createcluster'];
    "${config}/conf.d/capacity.conf":
      content => epp('profile/capacity.conf.epp', {
        'shared_buffers_mb' => $shared_buffers_mb,
        'cache_mb'          => $cache_mb,
        'work_mem_mb'       => $work_mem_mb,
        'max_connections'   => $max_connections,
      }),
      notify  => Service[$service];
    "${config}/${database}.sql":
      content => epp('profile/database.sql.epp', {
        'database'      => $database,
        'user'          => $user,
        'password_file' => "${config}/${database}.password",
      });
    "${config}/${database}.password":
      mode    => '0600',
      content => $password;
  }

  # The cluster's own unit. `postgresql` only groups all clusters, and stays active when this cluster is down.
  # The package starts the unit at boot.
  service { $service:
    ensure => running,
  }

  # The password reaches psql through a file and its environment: a command line can be read by every user of the host.
  exec { "database ${database}":
    command  => "psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --file=${config}/${database}.sql",
    unless   => "PGPASSWORD=\"$(cat ${config}/${database}.password)\" psql --no-psqlrc --host=127.0.0.1 \
      --username=${user} --dbname=${database} --command='SELECT 1'",
    user     => 'postgres',
    cwd      => '/',
    path     => '/usr/bin:/bin',
    provider => shell,
    require  => [Service[$service], File["${config}/${database}.sql", "${config}/${database}.password"]],
  }
}
