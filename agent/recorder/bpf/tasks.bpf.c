// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
//
// A BPF iterator over all tasks: one record for each process, a smaller one for each further thread. The record
// layouts are read by agent/recorder/src/collector/bpf/reading.rs, the only other place that knows them.
//
// The structures are cut down to what is used; offsets are corrected when the program is loaded (CO-RE). Kernel
// memory is read by plain loads, which the kernel allows through typed pointers and which yield zero behind a null
// pointer: a call for each field would cost more than everything else together.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int s32;
typedef unsigned long long u64;
typedef long long s64;

#define SECTION(name) __attribute__((section(name), used))
#define inline_always inline __attribute__((always_inline))
#define field_exists(field) __builtin_preserve_field_info(field, 2)
#define field_offset(field) __builtin_preserve_field_info(field, 0)
#define type_exists(type) __builtin_preserve_type_info(*(type *)0, 0)

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sched_entity {
	u64 sum_exec_runtime;
};

struct sched_info {
	u64 run_delay;
};

struct task_io_accounting {
	u64 read_bytes;
	u64 write_bytes;
};

// Until Linux 6.1: the sums of a process, and what each thread has not yet added to them.
struct mm_rss_stat {
	struct {
		long counter;
	} count[4];
};

struct task_rss_stat {
	int count[4];
};

// Since Linux 6.2: a sum, and what each CPU has not yet added to it.
struct percpu_counter {
	s64 count;
	s32 *counters;
};

struct mm_struct {
	unsigned long total_vm;
	struct percpu_counter rss_stat[4];
};

struct mm_struct___until_6_1 {
	struct mm_rss_stat rss_stat;
};

struct signal_struct {
	int nr_threads;
	u64 utime;
	u64 stime;
	unsigned long maj_flt;
	struct task_io_accounting ioac;
	u64 sum_sched_runtime;
};

typedef struct {
	u32 val;
} kuid_t;

struct cred {
	kuid_t euid;
};

struct kernfs_node {
	u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct task_struct {
	unsigned int __state;
	unsigned int flags;
	struct sched_entity se;
	struct sched_info sched_info;
	struct mm_struct *mm;
	int exit_state;
	int pid;
	int tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	u64 utime;
	u64 stime;
	u64 start_boottime;
	unsigned long maj_flt;
	const struct cred *real_cred;
	const struct cred *cred;
	char comm[16];
	struct signal_struct *signal;
	u64 self_exec_id;
	struct task_io_accounting ioac;
	struct css_set *cgroups;
};

// The name that __state had until Linux 5.13.
struct task_struct___until_5_13 {
	long state;
};

struct task_struct___until_6_1 {
	struct task_rss_stat rss_stat;
};

struct bpf_array {
	void *pptrs[1];
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	u64 session_id;
	u64 seq_num;
};

#pragma clang attribute pop

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

static long (*probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static void *(*lookup_per_cpu)(void *map, const void *key, u32 cpu) = (void *)195;
static long (*seq_write)(struct seq_file *seq, const void *data, u32 length) = (void *)127;

// What the counters of one thread add to those of its process.
struct sums {
	u64 runtime_ns;
	u64 user_ns;
	u64 system_ns;
	u64 wait_ns;
	u64 major_faults;
	u64 read_bytes;
	u64 written_bytes;
	s32 unsettled_pages[4]; // file, anonymous, swap, shared memory
};

struct thread {
	u32 tgid;
	u32 pid; // not tgid: this is how the two kinds of records are told apart
	struct sums sums;
};

struct process {
	u32 tgid;
	u32 pid;
	struct sums sums; // of the first thread and of those that have ended
	u64 start_boottime_ns;
	u64 exec_id;
	u64 cgroup_id;
	u64 virtual_pages;
	s64 pages[4];
	u32 parent;
	u32 euid;
	u32 state;
	u32 threads;
	u8 comm[16];
	u8 has_memory;
	u8 has_wait;
	u8 has_io;
	u8 is_exact;
	u8 unused[4];
};

// Memory of a process whose first thread has exited, and has none any more, while others live: one record for each of
// these, behind theirs.
struct survivor {
	u32 tgid;
	u32 none; // 0, which no thread's id is
	u64 virtual_pages;
	s64 pages[4];
	u32 state;
	u8 unused[28]; // as long as the record of a thread
};

#define MAX_CPUS 16

// How many CPUs to ask for what they have counted; 0 if they are too many.
const volatile u32 cpus = 0;

// How far each CPU's own variables are from where the kernel's addresses of them point; 0 until that is known.
static volatile u64 per_cpu_offset[MAX_CPUS];

// A map of which every CPU has its own copy, to find that out.
struct {
	int (*type)[6]; // BPF_MAP_TYPE_PERCPU_ARRAY
	int (*max_entries)[1];
	u32 *key;
	u64 *value;
} landmark SECTION(".maps");

// Through memory a pointer becomes a number, which can be reckoned with.
static volatile u64 number;

static inline_always u64 as_number(const volatile void *pointer)
{
	number = (u64)pointer;
	return number;
}

static inline_always void find_cpus(void)
{
	u64 array = as_number(&landmark);
	u64 offset = field_offset(((struct bpf_array *)0)->pptrs);
	u64 address = 0;
	u32 key = 0;

	if (probe_read_kernel(&address, sizeof(address), (void *)(array + offset)) || !address)
		return;
	for (u32 cpu = 0; cpu < MAX_CPUS; cpu++) {
		void *copy;

		if (cpu >= cpus)
			break;
		copy = lookup_per_cpu(&landmark, &key, cpu);
		if (copy)
			per_cpu_offset[cpu] = as_number(copy) - address;
	}
}

static inline_always void add_thread(struct sums *sums, struct task_struct *task)
{
	sums->runtime_ns = task->se.sum_exec_runtime;
	sums->user_ns = task->utime;
	sums->system_ns = task->stime;
	if (field_exists(task->sched_info.run_delay))
		sums->wait_ns = task->sched_info.run_delay;
	sums->major_faults = task->maj_flt;
	if (field_exists(task->ioac.read_bytes)) {
		sums->read_bytes = task->ioac.read_bytes;
		sums->written_bytes = task->ioac.write_bytes;
	}
	if (type_exists(struct task_rss_stat)) {
		struct task_struct___until_6_1 *old = (void *)task;

		sums->unsettled_pages[0] = old->rss_stat.count[0];
		sums->unsettled_pages[1] = old->rss_stat.count[1];
		sums->unsettled_pages[2] = old->rss_stat.count[2];
		sums->unsettled_pages[3] = old->rss_stat.count[3];
	}
}

static inline_always void add_ended_threads(struct sums *sums, struct signal_struct *signal)
{
	u64 runtime_ns = signal->sum_sched_runtime;

	// Those of children that were waited for are in it too, as in /proc.
	if (field_exists(signal->ioac.read_bytes)) {
		sums->read_bytes += signal->ioac.read_bytes;
		sums->written_bytes += signal->ioac.write_bytes;
	}
	// Else no thread has ended: the other fields, on cache lines of their own, are zero.
	if (runtime_ns) {
		sums->runtime_ns += runtime_ns;
		sums->user_ns += signal->utime;
		sums->system_ns += signal->stime;
		sums->major_faults += signal->maj_flt;
	}
}

// Adds what single CPUs have counted. A process's four counters lie side by side (Linux 6.6, percpu_counter_init_many).
static inline_always void add_per_cpu(s64 *pages, struct mm_struct *mm)
{
	u64 first = (u64)mm->rss_stat[0].counters;
	u64 last = (u64)mm->rss_stat[3].counters;

	for (u32 cpu = 0; cpu < MAX_CPUS; cpu++) {
		s32 part[4] = {};

		if (cpu >= cpus)
			break;
		if (last - first == 3 * sizeof(s32)) {
			probe_read_kernel(part, sizeof(part), (void *)(first + per_cpu_offset[cpu]));
		} else {
			u64 second = (u64)mm->rss_stat[1].counters;
			u64 third = (u64)mm->rss_stat[2].counters;

			probe_read_kernel(&part[0], sizeof(s32), (void *)(first + per_cpu_offset[cpu]));
			probe_read_kernel(&part[1], sizeof(s32), (void *)(second + per_cpu_offset[cpu]));
			probe_read_kernel(&part[2], sizeof(s32), (void *)(third + per_cpu_offset[cpu]));
			probe_read_kernel(&part[3], sizeof(s32), (void *)(last + per_cpu_offset[cpu]));
		}
		pages[0] += part[0];
		pages[1] += part[1];
		pages[2] += part[2];
		pages[3] += part[3];
	}
}

static inline_always void add_memory(u64 *virtual_pages, s64 *pages, struct mm_struct *mm)
{
	*virtual_pages = mm->total_vm;
	if (type_exists(struct mm_rss_stat)) {
		struct mm_struct___until_6_1 *old = (void *)mm;

		// These kernels do not follow the type of an element to its counter.
		probe_read_kernel(pages, 4 * sizeof(s64), old->rss_stat.count);
	} else {
		pages[0] = mm->rss_stat[0].count;
		pages[1] = mm->rss_stat[1].count;
		pages[2] = mm->rss_stat[2].count;
		pages[3] = mm->rss_stat[3].count;
		add_per_cpu(pages, mm);
	}
}

static inline_always u32 state_of(struct task_struct *task)
{
	if (field_exists(task->__state))
		return task->__state | task->exit_state;
	return ((struct task_struct___until_5_13 *)(void *)task)->state | task->exit_state;
}

static inline_always void copy_name(u8 *to, struct task_struct *task)
{
	((u64 *)to)[0] = ((u64 *)task->comm)[0];
	((u64 *)to)[1] = ((u64 *)task->comm)[1];
}

SECTION("iter/task")
int tasks(struct bpf_iter__task *context)
{
	struct bpf_iter_meta *meta = context->meta;
	struct task_struct *task = context->task;
	struct signal_struct *signal;
	struct mm_struct *mm;

	if (!task)
		return 0;
	if (!type_exists(struct mm_rss_stat) && meta->seq_num == 0 && !per_cpu_offset[0])
		find_cpus();

	if (task->pid != task->tgid) {
		struct thread thread = { .tgid = task->tgid, .pid = task->pid };

		add_thread(&thread.sums, task);
		seq_write(meta->seq, &thread, sizeof(thread));
		mm = task->mm;
		if (mm && !task->group_leader->mm) {
			struct survivor survivor = { .tgid = task->tgid };

			add_memory(&survivor.virtual_pages, survivor.pages, mm);
			survivor.state = state_of(task);
			seq_write(meta->seq, &survivor, sizeof(survivor));
		}
		return 0;
	}

	struct process process = { .tgid = task->tgid, .pid = task->pid };

	signal = task->signal;
	add_thread(&process.sums, task);
	add_ended_threads(&process.sums, signal);
	process.start_boottime_ns = task->start_boottime;
	process.exec_id = task->self_exec_id;
	process.cgroup_id = task->cgroups->dfl_cgrp->kn->id;
	process.parent = task->real_parent->tgid;
	process.euid = task->cred->euid.val;
	process.state = state_of(task);
	process.threads = signal->nr_threads;
	copy_name(process.comm, task);
	process.has_wait = field_exists(task->sched_info.run_delay);
	process.has_io = field_exists(task->ioac.read_bytes);
	process.is_exact = type_exists(struct mm_rss_stat) || (cpus && per_cpu_offset[0]);
	mm = task->mm;
	if (mm) {
		process.has_memory = 1;
		add_memory(&process.virtual_pages, process.pages, mm);
	}
	seq_write(meta->seq, &process, sizeof(process));
	return 0;
}

const char terms[] SECTION("license") = "Dual BSD/GPL";
