# Entry point of every host. The fact `role` decides what the host is.
node default {
  $role = $facts['role']

  unless $role =~ Pattern[/\A[a-z][a-z0-9_]*\z/] {
    fail("This host has no role: its fact 'role' is '${role}'. The agent sets it; by hand: FACTER_role=db puppet apply ...")
  }
  unless defined("role::${role}") {
    fail("There is no role '${role}': describe it as class role::${role} in site-modules/role/manifests/${role}.pp")
  }

  include "role::${role}"
}
