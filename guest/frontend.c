/* SPDX-License-Identifier: BSD-3-Clause */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>
#include <linux/sockios.h>

#include <rte_bitops.h>
#include <rte_common.h>
#include <rte_ether.h>
#include <rte_vhost.h>

#include "guest/fault.h"
#include "guest/frontend.h"
#include "guest/guest.h"
#include "guest/vhost_user.h"
#include "main.h"
#include "virtio_net_defs.h"

#define RINGS_MAX (2 * QUEUE_PAIR_MAX)
#define PATH_LEN sizeof(((struct sockaddr_un *)0)->sun_path)

/* Bytes of replies that may lie unread. All replies that there are to a device's set-up are less. */
#define UNREAD_MAX 65536

/*
 * What a message handler gets: struct vhu_msg_context of lib/vhost/vhost_user.h, which keeps its
 * layout for their sake. The payload is as long as the longest there is, that of a crypto session.
 */
struct message_context {
	struct {
		uint32_t request;
		uint32_t flags;
		uint32_t size;
		union {
			union vhost_user_payload payload;
			uint8_t longest[632];
		};
	} __attribute__((packed)) message;
	int fds[VHOST_USER_REGIONS_MAX];
	int nb_fds;
} __attribute__((packed));

/* By vid. */
static struct frontend {
	int sock;	 /* the connection, a descriptor of our own; -1: not found */
	bool unfinished; /* librte_vhost has a message in hand, or failed to carry it out */
	bool has_memory;
	bool logged;
	uint64_t sized[RINGS_MAX / 64]; /* rings that got a size since they were last stopped */
} frontends[RTE_MAX_VHOST_DEVICE];

static bool
is_sized(const struct frontend *fe, uint32_t ring)
{
	return fe->sized[ring / 64] & RTE_BIT64(ring % 64);
}

static bool
any_is_sized(const struct frontend *fe)
{
	return (fe->sized[0] | fe->sized[1] | fe->sized[2] | fe->sized[3]) != 0;
}

/* Whether librte_vhost has a ring's addresses. */
static bool
is_placed(int vid, uint16_t ring)
{
	struct rte_vhost_vring v;

	return rte_vhost_get_vhost_vring(vid, ring, &v) == 0 && v.desc != NULL;
}

static bool
any_is_placed(int vid)
{
	uint16_t i;

	for (i = 0; i < RINGS_MAX; i++) {
		if (is_placed(vid, i))
			return true;
	}
	return false;
}

/*
 * Whether bytes up to end of a file can be mapped and will be there when they are touched. Not in a
 * file system that an ordinary process serves, which can let who touches them wait for ever.
 */
static const char *
check_file(int fd, uint64_t size, uint64_t offset)
{
	struct statfs fs;
	struct stat st;

	if (size == 0 || offset > UINT64_MAX - size)
		return "memory without end";
	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0 || !S_ISREG(st.st_mode) ||
			fs.f_type == FUSE_SUPER_MAGIC)
		return "memory that is not in a file of this machine";
	if ((uint64_t)st.st_size < offset + size)
		return "memory beyond the end of its file";
	return NULL;
}

/* Map all regions as librte_vhost will, to see that it can: it unmaps the old ones first. */
static const char *
try_to_map(const struct vhost_user_memory *memory, const int *fds)
{
	void *at[VHOST_USER_REGIONS_MAX];
	uint64_t len[VHOST_USER_REGIONS_MAX];
	const char *why = NULL;
	struct stat st;
	uint32_t i;

	for (i = 0; i < memory->nregions; i++) {
		const struct vhost_user_region *r = &memory->region[i];

		why = check_file(fds[i], r->size, r->mmap_offset);
		if (why != NULL)
			break;
		len[i] = r->mmap_offset + r->size;
		if (fstat(fds[i], &st) == 0 && st.st_blksize > 0)
			len[i] = RTE_ALIGN_CEIL(len[i], (uint64_t)st.st_blksize);
		at[i] = mmap(NULL, len[i], PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], 0);
		if (at[i] == MAP_FAILED) {
			why = "memory that cannot be mapped";
			break;
		}
	}
	while (i-- > 0)
		munmap(at[i], len[i]);
	return why;
}

static const char *
check_memory(const struct message_context *c)
{
	/* a copy: the message is packed */
	struct vhost_user_memory memory = c->message.payload.memory;
	int fds[VHOST_USER_REGIONS_MAX];

	if (memory.nregions == 0 || memory.nregions > VHOST_USER_REGIONS_MAX)
		return "none or too many regions of memory";
	memcpy(fds, c->fds, sizeof(fds));
	return try_to_map(&memory, fds);
}

/* librte_vhost alone knows where it maps this, so guest/fault.h is no help: it must not shrink. */
static const char *
check_log(const struct message_context *c)
{
	int seals;

	if (c->message.size != sizeof(struct vhost_user_log))
		return "a log of another form";
	seals = fcntl(c->fds[0], F_GET_SEALS);
	if ((seals < 0 || !(seals & F_SEAL_SHRINK)) &&
			fcntl(c->fds[0], F_ADD_SEALS, F_SEAL_SHRINK) < 0)
		return "a log whose file can be cut off";
	return check_file(c->fds[0], c->message.payload.log.size, c->message.payload.log.offset);
}

/* Whether features are among those that a function says are offered by the guest's socket. */
static bool
is_offered(int vid, uint64_t features, int (*ask)(const char *path, uint64_t *offered))
{
	char path[PATH_LEN];
	uint64_t offered = 0;

	return rte_vhost_get_ifname(vid, path, sizeof(path)) == 0 && ask(path, &offered) == 0 &&
		!(features & ~offered);
}

static const char *
check_features(int vid, const struct frontend *fe, uint64_t features)
{
	uint64_t now = 0, changed;

	if (!is_offered(vid, features, rte_vhost_driver_get_features))
		return "features that were not offered";
	rte_vhost_get_negotiated_features(vid, &now);
	changed = features ^ now;
	/* What librte_vhost keeps for a ring depends on its layout, from the time it has a size. */
	if (changed & RTE_BIT64(VIRTIO_F_RING_PACKED) && any_is_sized(fe))
		return "another layout of rings that are set up";
	if (!any_is_placed(vid))
		return NULL;
	if (changed & ~RTE_BIT64(VHOST_F_LOG_ALL))
		return "other features of rings in use";
	if (!(features & RTE_BIT64(VIRTIO_NET_F_MQ)) && rte_vhost_get_vring_num(vid) > 2)
		return "more rings than were negotiated";
	return NULL;
}

static const char *
check_size(int vid, struct frontend *fe, const struct vhost_vring_state *s)
{
	uint64_t features = 0;

	if (is_placed(vid, (uint16_t)s->index))
		return "another size of a ring in use";
	rte_vhost_get_negotiated_features(vid, &features);
	if (s->num == 0 || s->num > VIRTQUEUE_SIZE_MAX ||
			(!(features & RTE_BIT64(VIRTIO_F_RING_PACKED)) && !rte_is_power_of_2(s->num)))
		return "a ring of a size that cannot be";
	fe->sized[s->index / 64] |= RTE_BIT64(s->index % 64);
	return NULL;
}

/* Workers write to it, and are to wait for nobody. */
static const char *
check_call(const struct message_context *c)
{
	char link[32], target[32];
	ssize_t n;
	int flags;

	if (c->nb_fds == 0)
		return NULL;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", c->fds[0]);
	n = readlink(link, target, sizeof(target) - 1);
	if (n < 0)
		return "a descriptor to notify by that cannot be looked at";
	target[n] = '\0';
	flags = fcntl(c->fds[0], F_GETFL);
	if (strcmp(target, "anon_inode:[eventfd]") != 0 || flags < 0 ||
			fcntl(c->fds[0], F_SETFL, flags | O_NONBLOCK) < 0)
		return "a descriptor to notify by that is no eventfd";
	return NULL;
}

/* How many descriptors come with a message. */
static uint32_t
expected_fds(const struct message_context *c)
{
	switch (c->message.request) {
	case VHOST_USER_SET_MEM_TABLE:
		return c->message.payload.memory.nregions;
	case VHOST_USER_SET_LOG_BASE:
	case VHOST_USER_SET_LOG_FD:
		return 1;
	case VHOST_USER_SET_VRING_KICK:
	case VHOST_USER_SET_VRING_CALL:
	case VHOST_USER_SET_VRING_ERR:
		return c->message.payload.u64 & VHOST_USER_NO_FD ? 0 : 1;
	default:
		return 0;
	}
}

/* librte_vhost has seen to it that a ring's index is below RINGS_MAX. */
static const char *
check(int vid, struct frontend *fe, const struct message_context *c)
{
	struct vhost_vring_state state = c->message.payload.state;
	int unread = 0;

	if (fe->unfinished)
		return "a message before it failed";
	if (fe->sock >= 0 && ioctl(fe->sock, SIOCOUTQ, &unread) == 0 && unread > UNREAD_MAX) {
		shutdown(fe->sock, SHUT_RDWR);
		return "replies are not read";
	}
	if ((uint32_t)c->nb_fds != expected_fds(c))
		return "not the descriptors that belong to it";
	switch (c->message.request) {
	case VHOST_USER_SET_FEATURES:
		return check_features(vid, fe, c->message.payload.u64);
	case VHOST_USER_SET_MEM_TABLE:
		return check_memory(c);
	case VHOST_USER_SET_LOG_BASE:
		return check_log(c);
	case VHOST_USER_SET_VRING_NUM:
		return check_size(vid, fe, &state);
	case VHOST_USER_SET_VRING_KICK:
		return is_sized(fe, state.index & VHOST_USER_VRING) ? NULL : "a ring without a size";
	case VHOST_USER_SET_VRING_CALL:
		return check_call(c);
	case VHOST_USER_SET_VRING_ADDR:
		return fe->has_memory ? NULL : "a ring without memory";
	case VHOST_USER_SET_PROTOCOL_FEATURES:
		return is_offered(vid, c->message.payload.u64, rte_vhost_driver_get_protocol_features)
			? NULL : "features that were not offered";
	case VHOST_USER_NET_SET_MTU:
		return c->message.payload.u64 >= RTE_ETHER_MIN_MTU &&
			c->message.payload.u64 <= UINT16_MAX ? NULL : "an MTU that cannot be";
	case VHOST_USER_GET_VRING_BASE: /* stops the ring */
		fe->sized[state.index / 64] &= ~RTE_BIT64(state.index % 64);
		return NULL;
	case VHOST_USER_RESET_OWNER:
		memset(fe->sized, 0, sizeof(fe->sized));
		return NULL;
	case VHOST_USER_GET_FEATURES:
	case VHOST_USER_SET_OWNER:
	case VHOST_USER_SET_LOG_FD:
	case VHOST_USER_SET_VRING_BASE:
	case VHOST_USER_SET_VRING_ERR:
	case VHOST_USER_GET_PROTOCOL_FEATURES:
	case VHOST_USER_GET_QUEUE_NUM:
	case VHOST_USER_SET_VRING_ENABLE:
	case VHOST_USER_SEND_RARP:
	case VHOST_USER_SET_STATUS:
	case VHOST_USER_GET_STATUS:
		return NULL;
	default:
		/* Some of them librte_vhost would act on although it never offered to. */
		return "a request that was not offered";
	}
}

bool
frontend_accepts(int vid, void *context)
{
	struct frontend *fe = &frontends[vid];
	struct message_context *c = context;
	const char *why = check(vid, fe, c);

	if (why == NULL) {
		fe->unfinished = true;
		return true;
	}
	while (c->nb_fds > 0)
		close(c->fds[--c->nb_fds]);
	if (!fe->logged) {
		char path[PATH_LEN] = "";

		rte_vhost_get_ifname(vid, path, sizeof(path));
		RTE_LOG(ERR, DATA, "front end at %s: message %u refused: %s\n", path,
			c->message.request, why);
	}
	fe->logged = true;
	return false;
}

bool
frontend_keeps(int vid, void *context, struct guests *guests)
{
	struct message_context *c = context;
	uint16_t vring = c->message.payload.u64 & VHOST_USER_VRING;
	bool call = c->message.request == VHOST_USER_SET_VRING_CALL;
	bool done;

	if (!call && c->message.request != VHOST_USER_SET_VRING_KICK)
		return false;
	done = guests_keep_descriptor(guests, vid, vring, call, c->nb_fds > 0 ? c->fds[0] : -1);
	if (done || call) {
		c->nb_fds = 0;
		c->message.payload.u64 |= VHOST_USER_NO_FD;
	}
	return done;
}

void
frontend_done(int vid, const void *context, struct guests *guests)
{
	const struct message_context *c = context;

	if (c->message.request == VHOST_USER_GET_VRING_BASE) /* librte_vhost forgets it likewise */
		guests_set_call(guests, vid, (uint16_t)c->message.payload.state.index, -1);

	if (c->message.request == VHOST_USER_SET_MEM_TABLE) {
		fault_watch(vid);
		frontends[vid].has_memory = true;
	}
	frontends[vid].unfinished = false;
}

bool
frontend_is_sound(int vid)
{
	return !frontends[vid].unfinished;
}

/* Whether a descriptor is a connection by a socket of that path, made or accepted. */
static bool
is_connection(int fd, const char *path, bool accepted)
{
	struct sockaddr_un name = { 0 }, peer = { 0 };
	socklen_t len = sizeof(name), peer_len = sizeof(peer);

	if (getsockname(fd, (struct sockaddr *)&name, &len) < 0 || name.sun_family != AF_UNIX ||
			getpeername(fd, (struct sockaddr *)&peer, &peer_len) < 0)
		return false;
	return strncmp(accepted ? name.sun_path : peer.sun_path, path, sizeof(name.sun_path)) == 0;
}

static bool
is_known(int fd)
{
	struct stat st, other;
	unsigned int i;

	if (fstat(fd, &st) < 0)
		return true;
	for (i = 0; i < RTE_DIM(frontends); i++) {
		if (frontends[i].sock >= 0 && fstat(frontends[i].sock, &other) == 0 &&
				other.st_ino == st.st_ino)
			return true;
	}
	return false;
}

/*
 * librte_vhost does not say which descriptor a connection has. It is the one by this socket that
 * is not yet known. Returns a descriptor of our own for it, or -1.
 */
static int
find_connection(const char *path, bool accepted)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *e;
	int found = -1;

	if (dir == NULL)
		return -1;
	while (found < 0 && (e = readdir(dir)) != NULL) {
		int fd = atoi(e->d_name);

		if (fd > 0 && is_connection(fd, path, accepted) && !is_known(fd))
			found = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	}
	closedir(dir);
	return found;
}

RTE_INIT(no_frontend_yet)
{
	unsigned int i;

	for (i = 0; i < RTE_DIM(frontends); i++)
		frontends[i].sock = -1;
}

void
frontend_connected(int vid)
{
	struct timeval wait = { .tv_usec = FRONTEND_WAIT_MS * 1000 };
	struct frontend *fe = &frontends[vid];
	char path[PATH_LEN] = "";

	frontend_gone(vid);
	*fe = (struct frontend){ .sock = -1 };
	rte_vhost_get_ifname(vid, path, sizeof(path));
	fe->sock = find_connection(path, true);
	if (fe->sock < 0) /* --client */
		fe->sock = find_connection(path, false);
	if (fe->sock < 0 || setsockopt(fe->sock, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0 ||
			setsockopt(fe->sock, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) < 0)
		RTE_LOG(WARNING, DATA, "front end at %s: cannot be hung up on when it is slow\n", path);
}

void
frontend_gone(int vid)
{
	if (frontends[vid].sock >= 0)
		close(frontends[vid].sock);
	frontends[vid].sock = -1;
	fault_forget(vid);
}
