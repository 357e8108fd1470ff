# Memory of the current Apache children: the median of RssAnon + VmSwap, in MB, rounded up to a multiple of 5.
# Absent if none is running.
#
# Shared memory is left out, because all children share it: otherwise one opcode cache of 60 MB would look like
# 60 MB in every child. Field names and the unit (kB) are those of proc_pid_status(5).
Facter.add(:apache_child_mb) do
  confine kernel: 'Linux'

  setcode do
    apaches = Dir.glob('/proc/[0-9]*/status').filter_map do |path|
      status = File.read(path).scan(/^(\w+):\s+(\S+)/).to_h
      status if %w[apache2 httpd].include?(status['Name'])
    rescue SystemCallError
      nil # the process exited meanwhile
    end

    parents = apaches.map { |status| status['Pid'] }
    sizes = apaches.select { |status| parents.include?(status['PPid']) }
                   .map { |status| status['RssAnon'].to_i + status['VmSwap'].to_i }
                   .sort
    (sizes[sizes.length / 2] / 1024.0 / 5).ceil * 5 unless sizes.empty?
  end
end
