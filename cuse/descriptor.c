/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cuse/descriptor.h"
#include "eventfd_link/eventfd_link.h"

#define MODULE_DEVICE "/dev/eventfd-link"

static int module_fd = -1;

pid_t
descriptor_process(pid_t thread)
{
	char path[32], line[128];
	pid_t process = -ESRCH;
	int tgid;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", thread);
	f = fopen(path, "re");
	if (f == NULL)
		return -ESRCH;
	while (fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "Tgid: %d", &tgid) == 1) {
			process = tgid;
			break;
		}
	}
	fclose(f);
	return process;
}

int
descriptor_use_module(void)
{
	module_fd = open(MODULE_DEVICE, O_RDWR | O_CLOEXEC);
	return module_fd < 0 ? -errno : 0;
}

void
descriptor_release_module(void)
{
	if (module_fd >= 0)
		close(module_fd);
	module_fd = -1;
}

static int
take_by_module(pid_t process, int fd)
{
	struct eventfd_copy2 copy = { .fd = (unsigned int)fd, .pid = process, .flags = O_CLOEXEC };
	int own = ioctl(module_fd, EVENTFD_COPY2, &copy);

	return own < 0 ? -errno : own;
}

int
descriptor_take(pid_t process, int fd)
{
	int pidfd, own;

	if (fd < 0)
		return -EBADF;
	if (module_fd >= 0)
		return take_by_module(process, fd);
	pidfd = (int)syscall(SYS_pidfd_open, process, 0);
	if (pidfd < 0)
		return -errno;
	own = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (own < 0)
		own = -errno;
	close(pidfd);
	return own;
}

bool
descriptor_is_eventfd(int fd)
{
	static const char name[] = "anon_inode:[eventfd]";
	char path[32], target[sizeof(name)] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, target, sizeof(target)) == sizeof(name) - 1 &&
		memcmp(target, name, sizeof(name) - 1) == 0;
}
