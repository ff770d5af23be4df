"""What a ship's ``/proc`` and ``/dev`` are made of: the kernel's tables about the whole machine are hidden.

Namespaces do not separate these. Most are readable by the machine's root alone, who is nobody in a ship that has ids
of its own; they are hidden nevertheless, since an ordinary user's drydock has no such ids to give.
"""

from __future__ import annotations

#: Covered by /dev/null.
HIDDEN_FILES = (
    *("sysrq-trigger", "kcore", "keys", "key-users", "kmsg", "timer_list", "sched_debug", "schedstat", "latency_stats"),
    *("slabinfo", "kpagecount", "kpageflags", "kpagecgroup", "vmallocinfo", "kallsyms", "allocinfo"),
    *("modules", "iomem", "ioports", "interrupts", "softirqs", "buddyinfo", "pagetypeinfo", "zoneinfo"),
    *("diskstats", "partitions", "locks", "swaps", "dma", "mtrr", "consoles", "devices", "misc", "fb", "cmdline"),
    *("bootconfig", "config.gz", "crypto", "execdomains", "mdstat"),
)
#: Covered by an empty directory.
HIDDEN_DIRECTORIES = ("acpi", "asound", "bus", "driver", "dynamic_debug", "irq", "scsi")
#: Can be read, and not be written.
READ_ONLY = ("sys", "fs", "pressure")
#: Of the machine's /dev; everything else would hand over disks and /dev/kvm.
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
