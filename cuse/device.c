/* SPDX-License-Identifier: BSD-3-Clause */
#define FUSE_USE_VERSION 35
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cuse_lowlevel.h>
#include <linux/capability.h>

#include <rte_bitops.h>
#include <rte_common.h>

#include "cuse/cuse.h"
#include "cuse/descriptor.h"
#include "cuse/translator.h"
#include "thread.h"

RTE_LOG_REGISTER(log_type_cuse, vhost-switch.cuse, INFO);

#define DEFAULT_NAME "vhost-net"
#define NAME_LENGTH_MAX 64

/*
 * The device's default number: of the major of miscellaneous devices, since DPDK's virtio_user
 * looks at that to tell vhost-net from a socket, and of the minors above those that misc_register()
 * gives away.
 */
#define MISC_MAJOR 10
#define FIRST_MINOR 300
#define LAST_MINOR 363

/* How long the kernel and devtmpfs may take to make the device. */
#define APPEAR_TIMEOUT_MS 3000

/* An open of the device. */
struct open_device {
	LIST_ENTRY(open_device) link;
	struct translator *t;
};

static struct {
	char socket[sizeof("/run/vhost-switch-.sock") + NAME_LENGTH_MAX];
	char path[sizeof("/dev/") + NAME_LENGTH_MAX];
	char info[sizeof("DEVNAME=") + NAME_LENGTH_MAX]; /* what the kernel is told */
	unsigned int major, minor;
	struct fuse_session *session;
	bool appeared;
	int stop_fd;
	pthread_t thread;
	bool running;
	LIST_HEAD(, open_device) opens;
} device = { .stop_fd = -1 };

/* What happens with the device; called by libfuse on the device's thread. */

static void
on_init_done(void *userdata)
{
	(void)userdata;
	device.appeared = true;
}

static void
on_open(fuse_req_t req, struct fuse_file_info *fi)
{
	struct open_device *o = calloc(1, sizeof(*o));
	int ret = o == NULL ? -ENOMEM : translator_create(device.socket, &o->t);

	if (ret < 0) {
		RTE_LOG(WARNING, CUSE, "%s cannot be opened: %s\n", device.path, strerror(-ret));
		free(o);
		fuse_reply_err(req, -ret);
		return;
	}
	LIST_INSERT_HEAD(&device.opens, o, link);
	fi->fh = (uintptr_t)o;
	fuse_reply_open(req, fi);
}

static void
forget(struct open_device *o)
{
	LIST_REMOVE(o, link);
	translator_destroy(o->t);
	free(o);
}

static void
on_release(fuse_req_t req, struct fuse_file_info *fi)
{
	forget((struct open_device *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}

/*
 * The kernel does not know what an ioctl of this device reads and writes. It asks with no data, is
 * told where the data is, and asks again with it: once more for the regions of VHOST_SET_MEM_TABLE.
 * The caller may change its memory in between, so lengths are worked out again each time.
 */
static void
on_ioctl(fuse_req_t req, int signed_cmd, void *arg, struct fuse_file_info *fi, unsigned int flags,
	const void *in_buf, size_t in_len, size_t out_len)
{
	struct open_device *o = (struct open_device *)(uintptr_t)fi->fh;
	unsigned int cmd = (unsigned int)signed_cmd;
	struct iovec in_iov = { .iov_base = arg }, out_iov = { .iov_base = arg };
	uint64_t out[4] = { 0 };
	size_t in, header;
	int ret;

	if (flags & FUSE_IOCTL_COMPAT) {
		RTE_LOG(WARNING, CUSE, "32-bit ioctl 0x%x refused\n", cmd);
		fuse_reply_err(req, ENOTTY);
		return;
	}
	translator_sizes(cmd, NULL, 0, &header, &out_iov.iov_len);
	translator_sizes(cmd, in_buf, in_len, &in, &out_iov.iov_len);
	if (in_len < in || out_len < out_iov.iov_len) {
		if (in_len > header) { /* the number of regions has grown meanwhile */
			fuse_reply_err(req, EINVAL);
			return;
		}
		in_iov.iov_len = in;
		fuse_reply_ioctl_retry(req, &in_iov, in > 0, &out_iov, out_iov.iov_len > 0);
		return;
	}
	ret = translator_ioctl(o->t, fuse_req_ctx(req)->pid, cmd, in_buf, out);
	if (ret < 0)
		fuse_reply_err(req, -ret);
	else
		fuse_reply_ioctl(req, 0, out, out_iov.iov_len);
}

static const struct cuse_lowlevel_ops operations = {
	.init_done = on_init_done,
	.open = on_open,
	.release = on_release,
	.ioctl = on_ioctl,
};

/* Take one request from the kernel and carry it out. 0, or a negative errno: no more will come. */
static int
serve_request(struct fuse_buf *buf)
{
	int n = fuse_session_receive_buf(device.session, buf);

	if (n == -EINTR || n == -EAGAIN)
		return 0;
	if (n <= 0)
		return n == 0 ? -ENODEV : n;
	fuse_session_process_buf(device.session, buf);
	return 0;
}

static void *
serve(void *arg)
{
	struct pollfd fds[] = {
		{ .fd = fuse_session_fd(device.session), .events = POLLIN },
		{ .fd = device.stop_fd, .events = POLLIN },
	};
	struct fuse_buf buf = { 0 };

	for (;;) {
		if (poll(fds, RTE_DIM(fds), -1) < 0 && errno != EINTR)
			break;
		if (fds[1].revents != 0)
			break;
		if (fds[0].revents != 0 && serve_request(&buf) < 0) {
			RTE_LOG(ERR, CUSE, "%s is gone: no more guests can connect by it\n",
				device.path);
			break;
		}
	}
	free(buf.mem);
	return arg;
}

/* Making the device. */

static int
reject(const char *option, const char *accepts, const char *got)
{
	fprintf(stderr, "vhost-switch: invalid value '%s' for %s: it accepts %s\n", got, option,
		accepts);
	return -EINVAL;
}

/* MAJOR:MINOR, both of what dev_t can hold, or nothing: a free one of the default's. */
static int
choose_number(const char *text)
{
	char path[48], rest;
	struct stat st;

	if (text != NULL) {
		if (sscanf(text, "%u:%u%c", &device.major, &device.minor, &rest) != 2 ||
				text[strspn(text, "0123456789:")] != '\0' || device.major > 4095 ||
				device.minor > 1048575)
			return reject("--cuse-devnum", "a device number MAJOR:MINOR", text);
		return 0;
	}
	device.major = MISC_MAJOR;
	for (device.minor = FIRST_MINOR; device.minor < LAST_MINOR; device.minor++) {
		snprintf(path, sizeof(path), "/sys/dev/char/%u:%u", device.major, device.minor);
		if (stat(path, &st) < 0)
			break;
	}
	return 0;
}

static int
check_name(const char *name)
{
	struct stat st;

	if (strlen(name) > NAME_LENGTH_MAX || strchr(name, '/') != NULL || name[0] == '.')
		return reject("--dev-basename", "the name of a device to make below /dev", name);
	snprintf(device.path, sizeof(device.path), "/dev/%s", name);
	snprintf(device.info, sizeof(device.info), "DEVNAME=%s", name);
	snprintf(device.socket, sizeof(device.socket), "/run/vhost-switch-%s.sock", name);
	if (lstat(device.path, &st) == 0) {
		fprintf(stderr, "vhost-switch: --dev-basename names %s, which exists: it must be "
			"the name of a new device\n", device.path);
		return -EEXIST;
	}
	return 0;
}

/* Capabilities, by the numbers of linux/capability.h, that this process has in effect. */
static uint64_t
effective_capabilities(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	uint64_t capabilities = 0;
	char line[128];

	if (f == NULL)
		return 0;
	while (fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "CapEff: %" SCNx64, &capabilities) == 1)
			break;
	}
	fclose(f);
	return capabilities;
}

/* Without these each guest would be refused, for what looks like an error of its own. */
static int
check_capabilities(void)
{
	uint64_t have = effective_capabilities();

	if (!(have & RTE_BIT64(CAP_SYS_PTRACE))) {
		fprintf(stderr, "vhost-switch: --dev-basename needs CAP_SYS_PTRACE, "
			"to look into the processes that open the device\n");
		return -EPERM;
	}
	if (!(have & (RTE_BIT64(CAP_CHECKPOINT_RESTORE) | RTE_BIT64(CAP_SYS_ADMIN)))) {
		fprintf(stderr, "vhost-switch: --dev-basename needs CAP_CHECKPOINT_RESTORE or "
			"CAP_SYS_ADMIN, to open guest memory below /proc/PID/map_files\n");
		return -EPERM;
	}
	return 0;
}

static int
check_kernel(const struct config *cfg)
{
	int fd = open("/dev/cuse", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		fprintf(stderr, "vhost-switch: --dev-basename needs the kernel's CUSE: /dev/cuse: "
			"%s (modprobe cuse?)\n", strerror(errno));
		return -errno;
	}
	close(fd);
	if (cfg->eventfd_link && descriptor_use_module() < 0) {
		fprintf(stderr, "vhost-switch: --eventfd-link needs the module eventfd_link: "
			"/dev/eventfd-link: %s\n", strerror(errno));
		return -errno;
	}
	return 0;
}

int
cuse_prepare(struct config *cfg)
{
	int ret;

	if (cfg->dev_basename == NULL && (cfg->nb_socket_files > 0 || cfg->nb_ports > 0 ||
			cfg->config_file != NULL))
		return 0;
	ret = choose_number(cfg->cuse_devnum);
	if (ret == 0)
		ret = check_name(cfg->dev_basename != NULL ? cfg->dev_basename : DEFAULT_NAME);
	if (ret == 0)
		ret = check_capabilities();
	if (ret == 0)
		ret = check_kernel(cfg);
	if (ret == 0)
		cfg->cuse_socket = device.socket;
	return ret;
}

static int
create_session(void)
{
	char mount[32], argv0[] = "vhost-switch";
	const char *info[] = { device.info };
	char *argv[] = { argv0, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct cuse_info ci = { .dev_major = device.major, .dev_minor = device.minor,
		.dev_info_argc = 1, .dev_info_argv = info, .flags = CUSE_UNRESTRICTED_IOCTL };
	int fd;

	/* Not cuse_lowlevel_setup(): it takes the signals over, and may go to the background. */
	device.session = cuse_lowlevel_new(&args, &ci, &operations, NULL);
	fuse_opt_free_args(&args);
	if (device.session == NULL)
		return -ENOMEM;
	fd = open("/dev/cuse", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	snprintf(mount, sizeof(mount), "/dev/fd/%d", fd);
	if (fuse_session_mount(device.session, mount) < 0) {
		close(fd);
		return -EIO;
	}
	return 0;
}

/* Answer the kernel's first request, upon which it makes the device, and wait until it is there. */
static int
appear(void)
{
	struct pollfd pfd = { .fd = fuse_session_fd(device.session), .events = POLLIN };
	struct fuse_buf buf = { 0 };
	struct stat st;
	int ms, ret = 0;

	while (ret == 0 && !device.appeared) {
		if (poll(&pfd, 1, APPEAR_TIMEOUT_MS) <= 0)
			ret = -ETIMEDOUT;
		else
			ret = serve_request(&buf);
	}
	free(buf.mem);
	for (ms = 0; ret == 0 && (stat(device.path, &st) < 0 || !S_ISCHR(st.st_mode)); ms++) {
		if (ms == APPEAR_TIMEOUT_MS)
			ret = -ENODEV;
		usleep(1000);
	}
	return ret;
}

int
cuse_open(const struct config *cfg)
{
	int ret;

	if (cfg->cuse_socket == NULL)
		return 0;
	LIST_INIT(&device.opens);
	ret = create_session();
	if (ret == 0)
		ret = appear();
	if (ret < 0) {
		RTE_LOG(ERR, CUSE, "the kernel does not make %s with number %u:%u: %s "
			"(another --cuse-devnum?)\n", device.path, device.major, device.minor,
			strerror(-ret));
		return ret;
	}
	device.stop_fd = eventfd(0, EFD_CLOEXEC);
	if (device.stop_fd < 0)
		return -errno;
	ret = start_control_thread(&device.thread, "cuse", serve, NULL);
	device.running = ret == 0;
	if (ret == 0)
		RTE_LOG(INFO, CUSE, "guests can connect to %s (%u:%u)\n", device.path, device.major,
			device.minor);
	return ret < 0 ? ret : -ret;
}

void
cuse_close(void)
{
	uint64_t one = 1;
	struct open_device *o;

	if (device.running && write(device.stop_fd, &one, sizeof(one)) == sizeof(one))
		pthread_join(device.thread, NULL);
	device.running = false;
	if (device.session != NULL) {
		fuse_session_unmount(device.session);
		fuse_session_destroy(device.session); /* closes /dev/cuse: the device goes */
	}
	device.session = NULL;
	while ((o = LIST_FIRST(&device.opens)) != NULL)
		forget(o);
	if (device.stop_fd >= 0)
		close(device.stop_fd);
	device.stop_fd = -1;
	descriptor_release_module();
}
