/* Plain C local updates of 2D U(1), one chain, one thread: a yardstick for the numba kernels.
   gcc -O3 -march=native -ffast-math -DLL=64 local_u1.c -o local_u1 -lm && ./local_u1 BETA WIDTH N_SWEEPS */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#define L LL
#define PI 3.14159265358979323846
static uint64_t s[4]={1,2,3,4};
static inline uint64_t rotl(uint64_t x,int k){return (x<<k)|(x>>(64-k));}
static inline uint64_t nxt(){uint64_t r=rotl(s[1]*5,7)*9,t=s[1]<<17;s[2]^=s[0];s[3]^=s[1];s[1]^=s[2];s[0]^=s[3];s[2]^=t;s[3]=rotl(s[3],45);return r;}
static inline double u(){return ((nxt()>>12)+0.5)*0x1p-52;}
static double x[2][L][L];
static inline double wrap(double a){return a-2*PI*floor((a+PI)/(2*PI));}
static inline double plaquette(int i,int j){int ip=i+1<L?i+1:0,jp=j+1<L?j+1:0;return x[0][i][j]+x[1][ip][j]-x[0][i][jp]-x[1][i][j];}
/* the link's own plaquette and the one behind it; the link moves the first by sign * delta */
static inline void two(int mu,int i,int j,double*own,double*behind){*own=plaquette(i,j);*behind=mu?plaquette(i?i-1:L-1,j):plaquette(i,j?j-1:L-1);}
static double von_mises(double k){double r=(1+sqrt(1+4*k*k))/(2*k);for(;;){double z=cos(PI*u()),f=(1+r*z)/(r+z),c=k*(r-f),v=u();if(c*(2-c)>v||log(c/v)+1>=c){double a=acos(f);return nxt()>>63?a:-a;}}}
static double change(int way,double p,double q,double beta,double width){
  if(way==0)return q-p;
  double m=0.5*(p+q),d=0.5*(p-q);
  if(way==1){double e=width*(2*u()-1);return u()<exp(-4*beta*cos(m)*sin(d+0.5*e)*sin(0.5*e))?e:0;}
  double c=cos(m);
  return von_mises(2*beta*fabs(c)+1e-12)-d+(c<0?PI:0);}
int main(int n_args,char**v){double beta=atof(v[1]),width=atof(v[2]);int n=atoi(v[3]);const char*name[3]={"overrelaxation","metropolis","heatbath"};
  for(int way=2;way>=0;way--){struct timespec a,b;clock_gettime(CLOCK_MONOTONIC,&a);
    for(int t=0;t<n;t++)for(int mu=0;mu<2;mu++)for(int i=0;i<L;i++)for(int j=0;j<L;j++){double p,q;two(mu,i,j,&p,&q);double e=change(way,p,q,beta,width);x[mu][i][j]=wrap(x[mu][i][j]+(mu?-e:e));}
    clock_gettime(CLOCK_MONOTONIC,&b);double sum=0;for(int i=0;i<L;i++)for(int j=0;j<L;j++)sum+=cos(plaquette(i,j));
    printf("%s %.3f plaquette %.4f\n",name[way],1e9*(b.tv_sec-a.tv_sec+1e-9*(b.tv_nsec-a.tv_nsec))/n/(2.0*L*L),sum/(L*L));}
}
