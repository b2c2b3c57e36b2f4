// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/eventfd-link: copy an open file of another process, where pidfd_getfd(2) is not allowed.
 *
 * A process may copy from itself, and from every other one with CAP_SYS_PTRACE: whoever has that
 * can take files over anyway. The device is for root (mode 0600).
 */
#include <linux/capability.h>
#include <linux/compat.h>
#include <linux/fcntl.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#include "eventfd_link.h"

/*
 * The file that a task has open as fd, with a reference. Of what the kernel has for this, modules
 * may call only the one that looks for the next open descriptor: it is the right one, or there is
 * none.
 */
static struct file *get_file_of(struct task_struct *task, unsigned int fd)
{
	unsigned int found = fd;
	struct file *file;

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
	file = fget_task_next(task, &found);
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	rcu_read_lock();
	file = task_lookup_next_fdget_rcu(task, &found);
	rcu_read_unlock();
#else
	rcu_read_lock();
	file = task_lookup_next_fd_rcu(task, &found);
	if (file && !get_file_rcu(file))
		file = NULL;
	rcu_read_unlock();
#endif
	if (file && found != fd) {
		fput(file);
		file = NULL;
	}
	return file;
}

static int install_file(struct file *file, unsigned int flags)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	return receive_fd(file, NULL, flags);
#else
	return receive_fd(file, flags);
#endif
}

static struct task_struct *find_task(__kernel_pid_t nr)
{
	struct task_struct *task;

	if (nr <= 0)
		return NULL;
	rcu_read_lock();
	task = get_pid_task(find_vpid(nr), PIDTYPE_PID);
	rcu_read_unlock();
	return task;
}

static long copy_file(const struct eventfd_copy2 *copy)
{
	struct task_struct *task;
	struct file *file;
	long ret;

	if (copy->flags & ~(unsigned int)O_CLOEXEC)
		return -EINVAL;
	/* Descriptors are ints; beyond that is no file. */
	if (copy->fd > INT_MAX)
		return -EBADF;
	task = find_task(copy->pid);
	if (!task)
		return -ESRCH;
	if (!same_thread_group(task, current) && !capable(CAP_SYS_PTRACE)) {
		ret = -EPERM;
		goto put_task;
	}
	file = get_file_of(task, copy->fd);
	if (!file) {
		ret = -EBADF;
		goto put_task;
	}
	ret = install_file(file, copy->flags);
	fput(file);
put_task:
	put_task_struct(task);
	return ret;
}

static long eventfd_link_ioctl(struct file *file, unsigned int request, unsigned long arg)
{
	struct eventfd_copy2 copy;

	if (request != EVENTFD_COPY2)
		return -ENOTTY;
	if (copy_from_user(&copy, (void __user *)arg, sizeof(copy)))
		return -EFAULT;
	return copy_file(&copy);
}

static const struct file_operations eventfd_link_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = eventfd_link_ioctl,
	.compat_ioctl = compat_ptr_ioctl, /* the structure is the same */
};

static struct miscdevice eventfd_link_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "eventfd-link",
	.mode = 0600,
	.fops = &eventfd_link_fops,
};

module_misc_device(eventfd_link_device);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Copies an open file of another process");
