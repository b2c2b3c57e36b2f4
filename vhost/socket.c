/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/virtio_net.h>

#include <rte_vhost.h>

#include "vhost/check.h"
#include "vhost/connection.h"
#include "vhost/memory.h"
#include "vhost/relay.h"
#include "vhost/socket.h"
#include "vhost/vhost_user.h"

#define DEFAULT_BASENAME "vhost-net"

/*
 * Connections that may wait until the relay comes to them; librte_vhost's number
 * (MAX_VIRTIO_BACKLOG).
 */
#define BACKLOG 128

/* Of the file, since librte_vhost calls back with no more than a vid. */
static struct {
	const struct port_ops *ops;
	struct vhost_socket socket[SOCKET_MAX + 1];
	unsigned int nb_sockets;

	/* The socket that librte_vhost serves. It has a name only while it is made. */
	char dir[48], path[64];
	bool registered;
	int fd; /* by which the relay connects to it */
} vhost = { .fd = -1 };

/* Path i of the configuration, NULL after the last. */
static const char *
socket_path(const struct config *cfg, unsigned int i)
{
	if (i < cfg->nb_socket_files)
		return cfg->socket_file[i];
	if (i > cfg->nb_socket_files)
		return NULL;
	if (cfg->cuse_socket != NULL)
		return cfg->cuse_socket;
	if (cfg->dev_basename != NULL)
		return cfg->dev_basename;
	return cfg->nb_socket_files == 0 ? DEFAULT_BASENAME : NULL;
}

static const char *
option_of(const struct config *cfg, unsigned int i)
{
	return i < cfg->nb_socket_files ? "--socket-file" : "--dev-basename";
}

/* CUSE's own socket is not for others, and --client is not meant for it. */
static bool
is_client(const struct config *cfg, const char *path)
{
	return cfg->client && path != cfg->cuse_socket;
}

/* Whether somebody listens there. A vhost-user server takes our hanging up as a guest that left. */
static bool
is_served(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	bool served;
	int fd;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return true;
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	/* EAGAIN: its backlog is full, so there is somebody. */
	served = connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0 || errno == EAGAIN;
	close(fd);
	return served;
}

/* The directory that a path is in. Returns false when there is none. */
static bool
find_directory(const char *path, struct stat *st)
{
	const char *slash = strrchr(path, '/');
	char dir[sizeof(((struct sockaddr_un *)0)->sun_path)] = ".";

	if (slash != NULL)
		snprintf(dir, sizeof(dir), "%.*s", (int)RTE_MAX(slash - path, 1), path);
	return stat(dir, st) == 0 && S_ISDIR(st->st_mode);
}

static const char *
last_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

/* Whether two paths are the same, in whatever way they are written (/run and /var/run). */
static bool
is_same_path(const char *a, const char *b)
{
	struct stat in_a, in_b;

	if (strcmp(last_name(a), last_name(b)) != 0)
		return false;
	return strcmp(a, b) == 0 || (find_directory(a, &in_a) && find_directory(b, &in_b) &&
		in_a.st_dev == in_b.st_dev && in_a.st_ino == in_b.st_ino);
}

static int
check_directory(const char *option, const char *path)
{
	struct stat st;

	if (find_directory(path, &st))
		return 0;
	fprintf(stderr, "vhost-switch: %s '%s' is not in an existing directory\n", option, path);
	return -ENOENT;
}

static int
check_path(const char *option, const char *path, bool client)
{
	struct stat st;

	if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
		fprintf(stderr, "vhost-switch: %s has a socket path of %zu bytes: it accepts at "
			"most %zu\n", option, strlen(path),
			sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
		return -ENAMETOOLONG;
	}
	if (lstat(path, &st) < 0)
		return client ? 0 : check_directory(option, path);
	if (!S_ISSOCK(st.st_mode)) {
		fprintf(stderr, "vhost-switch: %s '%s' exists and is not a socket: it must be a "
			"new path or a vhost-user socket\n", option, path);
		return -ENOTSOCK;
	}
	if (!client && is_served(path)) {
		fprintf(stderr, "vhost-switch: %s '%s' is in use by a running server: it must be a "
			"socket of this switch alone\n", option, path);
		return -EADDRINUSE;
	}
	return 0;
}

int
sockets_check(const struct config *cfg)
{
	const char *path;
	unsigned int i, j;
	int ret;

	for (i = 0; (path = socket_path(cfg, i)) != NULL; i++) {
		ret = check_path(option_of(cfg, i), path, is_client(cfg, path));
		if (ret < 0)
			return ret;
		for (j = 0; j < i; j++) {
			if (is_same_path(path, socket_path(cfg, j))) {
				fprintf(stderr, "vhost-switch: %s '%s' is given twice: each path "
					"must be unique\n", option_of(cfg, i), path);
				return -EEXIST;
			}
		}
	}
	return 0;
}

static struct device *
device_of(int vid)
{
	struct connection *c = relay_find(vid);

	return c != NULL ? &c->device : NULL;
}

/* All virtqueues are ready, for the first time or again. */
static int
on_new_device(int vid)
{
	struct connection *c = relay_find(vid);
	int ret;

	if (c == NULL || c->device.busy)
		return -EPROTO;
	device_set_running(&c->device, true);
	ret = vhost.ops->start(vhost.ops->guests, &c->device);
	if (ret == 0)
		__atomic_store_n(&c->was_guest, 1, __ATOMIC_RELEASE);
	else
		device_set_running(&c->device, false);
	return ret;
}

/* A virtqueue has stopped, or the connection ends. */
static void
on_destroy_device(int vid)
{
	struct device *d = device_of(vid);

	if (d != NULL)
		device_set_running(d, false);
}

static int
on_vring_state_changed(int vid, uint16_t vring, int enable)
{
	struct device *d = device_of(vid);

	if (d == NULL)
		return 0;
	device_enable_ring(d, vring, enable != 0);
	if (enable)
		vhost.ops->check(vhost.ops->guests, d);
	return 0;
}

/*
 * A message brings a call or kick descriptor. librte_vhost would write to a call descriptor
 * (vhost/notify.h), so it gets none; and it would stop a virtqueue in use until the message has
 * been dealt with, which is not necessary. Returns whether librte_vhost has nothing to do.
 */
static bool
keep_descriptor(struct device *d, struct vhost_user_context *context)
{
	uint16_t vring = context->message.payload.u64 & VHOST_USER_VRING;
	bool call = context->message.request == VHOST_USER_SET_VRING_CALL;
	int fd = context->nb_fds > 0 ? context->fds[0] : -1;
	bool in_use = device_has_enabled(d, vring);

	if (!call && context->message.request != VHOST_USER_SET_VRING_KICK)
		return false;
	if (call)
		device_set_call(d, vring, fd);
	else if (in_use && fd >= 0)
		close(fd);
	if (in_use || call) {
		context->nb_fds = 0;
		context->message.payload.u64 |= VHOST_USER_NO_FD;
	}
	return in_use;
}

/* Our worker sends the RARP. */
static bool
keep_announcement(struct device *d, const struct vhost_user_context *context)
{
	if (context->message.request != VHOST_USER_SEND_RARP)
		return false;
	__atomic_store_n(&d->announce, context->message.payload.u64 & VHOST_USER_MAC_MASK,
		__ATOMIC_RELEASE);
	return true;
}

/* Whether a message has nothing to do with what workers use of a guest. */
static bool
changes_nothing(const struct vhost_user_context *context)
{
	switch (context->message.request) {
	case VHOST_USER_GET_FEATURES:
	case VHOST_USER_GET_PROTOCOL_FEATURES:
	case VHOST_USER_SET_PROTOCOL_FEATURES:
	case VHOST_USER_GET_QUEUE_NUM:
	case VHOST_USER_SET_OWNER:
	case VHOST_USER_SET_VRING_ERR:
	case VHOST_USER_NET_SET_MTU:
	case VHOST_USER_GET_STATUS:
		return true;
	default:
		return false;
	}
}

/*
 * Before librte_vhost acts on a message, which the relay has checked. When librte_vhost fails to
 * carry it out, after_message() is not called: the device is in an unknown state, its guest stays
 * paused, and the relay refuses what else the front end sends.
 */
static enum rte_vhost_msg_result
before_message(int vid, void *message)
{
	struct device *d = device_of(vid);

	if (d == NULL)
		return RTE_VHOST_MSG_RESULT_ERR;
	d->busy = true;
	if (keep_descriptor(d, message) || keep_announcement(d, message))
		return RTE_VHOST_MSG_RESULT_OK; /* and after_message() is called */
	if (!changes_nothing(message)) {
		d->is_message_paused = true;
		device_pause(d);
	}
	return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
}

static enum rte_vhost_msg_result
after_message(int vid, void *message)
{
	const struct vhost_user_context *context = message;
	struct connection *c = relay_find(vid);

	if (c == NULL)
		return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
	/* librte_vhost forgets it likewise. */
	if (context->message.request == VHOST_USER_GET_VRING_BASE)
		device_set_call(&c->device, (uint16_t)context->message.payload.state.index, -1);
	if (context->message.request == VHOST_USER_SET_MEM_TABLE) {
		c->device.has_memory = true;
		memory_settle(&c->files, vid);
	}
	c->device.busy = false;
	if (c->device.is_message_paused) {
		c->device.is_message_paused = false;
		device_forget_absent(&c->device);
		device_resume(&c->device);
	}
	return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
}

static const struct rte_vhost_user_extern_ops message_ops = {
	.pre_msg_handle = before_message,
	.post_msg_handle = after_message,
};

static int
on_new_connection(int vid)
{
	struct connection *c = relay_claim(vid, vhost.ops->rcu);

	if (c == NULL)
		return -EPERM;
	return rte_vhost_extern_callback_register(vid, &message_ops, NULL);
}

static void
on_destroy_connection(int vid)
{
	struct device *d = device_of(vid);

	if (d != NULL) {
		vhost.ops->leave(vhost.ops->guests, d);
		device_close(d);
	}
	relay_release(vid);
}

static const struct rte_vhost_device_ops device_ops = {
	.new_device = on_new_device,
	.destroy_device = on_destroy_device,
	.vring_state_changed = on_vring_state_changed,
	.new_connection = on_new_connection,
	.destroy_connection = on_destroy_connection,
};

/*
 * What librte_vhost can do, less what was not asked for. UDP fragmentation is never offered: the
 * switch cannot finish it for a destination that does not know it, and a guest that is not offered
 * it does it itself.
 */
static int
offer_features(const char *path, const struct config *cfg)
{
	uint64_t off = RTE_BIT64(VIRTIO_NET_F_HOST_UFO) | RTE_BIT64(VIRTIO_NET_F_GUEST_UFO);

	if (!cfg->mergeable)
		off |= RTE_BIT64(VIRTIO_NET_F_MRG_RXBUF);
	if (!cfg->tso)
		off |= RTE_BIT64(VIRTIO_NET_F_HOST_TSO4) | RTE_BIT64(VIRTIO_NET_F_GUEST_TSO4) |
			RTE_BIT64(VIRTIO_NET_F_HOST_TSO6) | RTE_BIT64(VIRTIO_NET_F_GUEST_TSO6) |
			RTE_BIT64(VIRTIO_NET_F_HOST_ECN) | RTE_BIT64(VIRTIO_NET_F_GUEST_ECN);
	if (!cfg->tx_csum)
		off |= RTE_BIT64(VIRTIO_NET_F_CSUM) | RTE_BIT64(VIRTIO_NET_F_GUEST_CSUM);
	return rte_vhost_driver_disable_features(path, off);
}

/* Of the protocol's features, those that guests of a switch have a use for. */
static int
offer_protocol_features(const char *path)
{
	return rte_vhost_driver_set_protocol_features(path, RTE_BIT64(VHOST_USER_PROTOCOL_F_MQ) |
		RTE_BIT64(VHOST_USER_PROTOCOL_F_LOG_SHMFD) | RTE_BIT64(VHOST_USER_PROTOCOL_F_RARP) |
		RTE_BIT64(VHOST_USER_PROTOCOL_F_REPLY_ACK) |
		RTE_BIT64(VHOST_USER_PROTOCOL_F_NET_MTU) | RTE_BIT64(VHOST_USER_PROTOCOL_F_STATUS));
}

/*
 * Make a socket that nobody but the relay can connect to: it has a name for a moment, in a
 * directory that is closed to others, and is reached by a descriptor after that.
 */
static int
start_back(const struct config *cfg)
{
	const char *home = access("/run", W_OK) == 0 ? "/run" : "/tmp";
	uint64_t features = 0, protocol_features = 0;
	int ret;

	snprintf(vhost.dir, sizeof(vhost.dir), "%s/vhost-switch-XXXXXX", home);
	if (mkdtemp(vhost.dir) == NULL)
		return -errno;
	snprintf(vhost.path, sizeof(vhost.path), "%s/relay", vhost.dir);
	ret = rte_vhost_driver_register(vhost.path, RTE_VHOST_USER_NET_COMPLIANT_OL_FLAGS);
	vhost.registered = ret == 0;
	if (ret == 0)
		ret = offer_features(vhost.path, cfg);
	if (ret == 0)
		ret = offer_protocol_features(vhost.path);
	if (ret == 0)
		ret = rte_vhost_driver_callback_register(vhost.path, &device_ops);
	if (ret == 0)
		ret = rte_vhost_driver_get_features(vhost.path, &features);
	if (ret == 0)
		ret = rte_vhost_driver_get_protocol_features(vhost.path, &protocol_features);
	if (ret == 0)
		ret = rte_vhost_driver_start(vhost.path);
	if (ret == 0)
		vhost.fd = open(vhost.path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	check_offer(features, protocol_features);
	unlink(vhost.path);
	rmdir(vhost.dir);
	return vhost.fd < 0 ? -EIO : 0;
}

/*
 * Hand a socket over to who is to connect. By a descriptor, so that what is changed is the socket
 * even where others may write in its directory.
 */
static int
hand_over(const char *path, const struct config *cfg, mode_t mode, struct stat *st)
{
	int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char link[32];
	int ret = 0;

	if (fd < 0)
		return -errno;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (fstat(fd, st) < 0)
		ret = -errno;
	else if (!S_ISSOCK(st->st_mode) || st->st_uid != geteuid())
		ret = -EEXIST;
	else if (fchownat(fd, "", cfg->socket_uid, cfg->socket_gid, AT_EMPTY_PATH) < 0 ||
			chmod(link, mode) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* The socket is made without permissions: nobody connects before it has its owner and mode. */
static int
start_server(struct vhost_socket *s, const struct config *cfg, struct stat *st)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	mode_t mask = umask(s->internal ? 0077 : 0777);
	mode_t mode = cfg->socket_mode != UINT32_MAX ? cfg->socket_mode : 0777 & ~mask;
	int ret = 0;

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", s->path);
	if (bind(s->listener.fd, (struct sockaddr *)&un, sizeof(un)) < 0)
		ret = -errno;
	umask(mask);
	if (ret < 0)
		return ret;
	if (s->internal)
		ret = lstat(s->path, st) < 0 ? -errno : 0;
	else
		ret = hand_over(s->path, cfg, mode, st);
	if (ret < 0) {
		RTE_LOG(ERR, CONFIG, "%s cannot get the owner and mode that it is to have: %s\n",
			s->path, strerror(-ret));
		unlink(s->path);
		return ret;
	}
	return listen(s->listener.fd, BACKLOG) < 0 ? -errno : 0;
}

static int
open_socket(const char *path, const struct config *cfg)
{
	struct vhost_socket *s = &vhost.socket[vhost.nb_sockets];
	struct stat st;

	*s = (struct vhost_socket){ .listener.fd = -1, .path = path,
		.client = is_client(cfg, path), .internal = path == cfg->cuse_socket };
	vhost.nb_sockets++;
	if (s->client)
		return 0;
	if (lstat(path, &st) == 0) {
		/* Somebody may have come since sockets_check(). */
		if (!S_ISSOCK(st.st_mode) || is_served(path))
			return -EADDRINUSE;
		unlink(path);
	}
	s->listener.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->listener.fd < 0)
		return -errno;
	return start_server(s, cfg, &s->made);
}

static void
log_open(const struct vhost_socket *s)
{
	if (!s->internal)
		RTE_LOG(INFO, CONFIG, "%s %s\n",
			s->client ? "connecting to guests at" : "guests can connect to", s->path);
}

int
sockets_open(const struct config *cfg, const struct port_ops *ops)
{
	const char *path;
	unsigned int i;
	int ret;

	vhost.ops = ops;
	memory_wake(ops->wake_fd);
	if (start_back(cfg) < 0) {
		RTE_LOG(ERR, CONFIG, "librte_vhost cannot serve a socket below /run or /tmp\n");
		return -EIO;
	}
	for (i = 0; (path = socket_path(cfg, i)) != NULL; i++) {
		ret = open_socket(path, cfg);
		if (ret < 0) {
			RTE_LOG(ERR, CONFIG, "cannot make the vhost-user socket %s\n", path);
			return -EIO;
		}
	}
	ret = relay_start(vhost.socket, vhost.nb_sockets, vhost.fd);
	for (i = 0; i < vhost.nb_sockets && ret == 0; i++)
		log_open(&vhost.socket[i]);
	return ret;
}

/* Remove a socket, unless it is somebody else's by now. */
static void
close_socket(const struct vhost_socket *s)
{
	struct stat st;

	if (s->listener.fd < 0)
		return;
	close(s->listener.fd);
	if (s->made.st_ino != 0 && lstat(s->path, &st) == 0 && st.st_ino == s->made.st_ino &&
			st.st_dev == s->made.st_dev)
		unlink(s->path);
}

void
sockets_close(void)
{
	relay_stop();
	while (vhost.nb_sockets > 0)
		close_socket(&vhost.socket[--vhost.nb_sockets]);
	if (vhost.registered)
		rte_vhost_driver_unregister(vhost.path);
	vhost.registered = false;
	relay_close();
	if (vhost.fd >= 0)
		close(vhost.fd);
	vhost.fd = -1;
}
